"""VASP through pymatgen's input sets, atomate2 and custodian.

``sets`` writes inputs, ``handlers`` watches VASP, ``running`` runs and continues it, ``runs``
reads what it left, ``results`` makes the document, ``makers`` is the interface of all engines.
Only ``handlers``, ``running`` and ``makers`` need the extra ``vasp``.
"""
