"""CP2K: PBE for charged cells of some dozens of atoms and more, without a licence.

``written`` is what it reads and writes, ``calculator`` converges one cell, ``makers`` is the
interface of all engines.
"""
