"""GPAW: PBE and HSE06 in plane waves, for charged cells, without a licence.

``calculator`` converges one cell, with fallbacks; ``makers`` is the interface of all engines.
GPAW itself (extra ``gpaw``) is imported only when something is computed.
"""
