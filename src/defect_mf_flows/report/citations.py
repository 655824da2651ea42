"""What to cite, and for what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: "J. Chem. Phys. 118, 8207 (2003)", a journal without pages, or one without a volume.
_PLACE = re.compile(
    r"(?P<journal>.+?)(?: (?P<volume>\d+)(?:\((?P<number>\d+)\))?)?(?:, (?P<pages>\w+))? "
    r"\((?P<year>\d{4})\)"
)


@dataclass(frozen=True)
class Work:
    """A publication.

    Attributes
    ----------
    authors, title, journal
        As they are cited; ``journal`` with volume, page and year.
    identifier
        DOI or arXiv number.
    """

    authors: str
    title: str
    journal: str
    identifier: str

    def text(self) -> str:
        """One line of a list of references."""
        return f"{self.authors}, {self.title}, {self.journal}, {self.identifier}"

    def entry(self, key: str) -> str:
        """Entry of a BibTeX file, in UTF-8.

        Parameters
        ----------
        key
            What a manuscript cites it by.
        """
        place = _PLACE.match(self.journal)
        assert place is not None, self.journal
        names = re.split(r", | and ", self.authors.replace(" et al.", ", others"))
        doi = self.identifier.removeprefix("https://doi.org/")
        arxiv = self.identifier.removeprefix("arXiv:")
        fields = {
            "author": " and ".join(names),
            "title": f"{{{self.title}}}",  # the second braces keep capital letters
            **place.groupdict(),
            **({"doi": doi} if doi != self.identifier else {}),
            **({"eprint": arxiv, "archiveprefix": "arXiv"} if arxiv != self.identifier else {}),
        }
        lines = (f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@article{{{key},\n" + ",\n".join(lines) + "\n}\n"


def bibliography(keys: Iterable[str]) -> str:
    """BibTeX file of works.

    Parameters
    ----------
    keys
        Of ``WORKS``.
    """
    return "\n".join(WORKS[key].entry(key) for key in keys)


def _doi(value: str) -> str:
    return f"https://doi.org/{value}"


WORKS: dict[str, Work] = {
    "multifidelity": Work(
        "X. Wang, I. Mosquera-Lois and A. Walsh",
        "Multi-fidelity machine learning interatomic potentials for charged point defects",
        "arXiv (2026)",
        "arXiv:2603.05238",
    ),
    "search": Work(
        "I. Mosquera-Lois et al.",
        "Machine-learning structural reconstructions for accelerated point defect calculations",
        "npj Comput. Mater. 10, 121 (2024)",
        _doi("10.1038/s41524-024-01303-9"),
    ),
    "mace": Work(
        "I. Batatia et al.",
        "MACE: Higher order equivariant message passing neural networks for fast and accurate "
        "force fields",
        "Adv. Neural Inf. Process. Syst. 35 (2022)",
        "arXiv:2206.07697",
    ),
    "gpmin": Work(
        "E. Garijo del Río, J. J. Mortensen and K. W. Jacobsen",
        "Local Bayesian optimizer for atomic structures",
        "Phys. Rev. B 100, 104103 (2019)",
        _doi("10.1103/PhysRevB.100.104103"),
    ),
    "trust": Work(
        "J. P. Janet, C. Duan, T. Yang, A. Nandy and H. J. Kulik",
        "A quantitative uncertainty metric controls error in neural network-driven chemical "
        "discovery",
        "Chem. Sci. 10, 7913 (2019)",
        _doi("10.1039/C9SC02298H"),
    ),
    "jobflow": Work(
        "A. S. Rosen et al.",
        "Jobflow: Computational workflows made simple",
        "J. Open Source Softw. 9(93), 5995 (2024)",
        _doi("10.21105/joss.05995"),
    ),
    "fireworks": Work(
        "A. Jain et al.",
        "FireWorks: a dynamic workflow system designed for high-throughput applications",
        "Concurr. Comput. Pract. Exp. 27, 5037 (2015)",
        _doi("10.1002/cpe.3505"),
    ),
    "atomate2": Work(
        "A. M. Ganose et al.",
        "Atomate2: modular workflows for materials science",
        "Digit. Discov. 4, 1944 (2025)",
        _doi("10.1039/D5DD00019J"),
    ),
    "doped": Work(
        "S. R. Kavanagh et al.",
        "doped: Python toolkit for robust and repeatable charged defect supercell calculations",
        "J. Open Source Softw. 9(96), 6433 (2024)",
        _doi("10.21105/joss.06433"),
    ),
    "shakenbreak": Work(
        "I. Mosquera-Lois et al.",
        "ShakeNBreak: Navigating the defect configurational landscape",
        "J. Open Source Softw. 7(80), 4817 (2022)",
        _doi("10.21105/joss.04817"),
    ),
    "snb_method": Work(
        "I. Mosquera-Lois, S. R. Kavanagh, A. Walsh and D. O. Scanlon",
        "Identifying the ground state structures of point defects in solids",
        "npj Comput. Mater. 9, 25 (2023)",
        _doi("10.1038/s41524-023-00973-1"),
    ),
    "dscribe": Work(
        "L. Himanen et al.",
        "DScribe: Library of descriptors for machine learning in materials science",
        "Comput. Phys. Commun. 247, 106949 (2020)",
        _doi("10.1016/j.cpc.2019.106949"),
    ),
    "soap": Work(
        "A. P. Bartók, R. Kondor and G. Csányi",
        "On representing chemical environments",
        "Phys. Rev. B 87, 184115 (2013)",
        _doi("10.1103/PhysRevB.87.184115"),
    ),
    "ase": Work(
        "A. Hjorth Larsen et al.",
        "The atomic simulation environment: a Python library for working with atoms",
        "J. Phys.: Condens. Matter 29, 273002 (2017)",
        _doi("10.1088/1361-648X/aa680e"),
    ),
    "fire": Work(
        "E. Bitzek, P. Koskinen, F. Gähler, M. Moseler and P. Gumbsch",
        "Structural relaxation made simple",
        "Phys. Rev. Lett. 97, 170201 (2006)",
        _doi("10.1103/PhysRevLett.97.170201"),
    ),
    "gfn1": Work(
        "S. Grimme, C. Bannwarth and P. Shushkov",
        "A robust and accurate tight-binding quantum chemical method for structures, vibrational "
        "frequencies, and noncovalent interactions of large molecular systems parametrized for "
        "all spd-block elements (Z = 1-86)",
        "J. Chem. Theory Comput. 13, 1989 (2017)",
        _doi("10.1021/acs.jctc.7b00118"),
    ),
    "gfn2": Work(
        "C. Bannwarth, S. Ehlert and S. Grimme",
        "GFN2-xTB: an accurate and broadly parametrized self-consistent tight-binding quantum "
        "chemical method with multipole electrostatics and density-dependent dispersion "
        "contributions",
        "J. Chem. Theory Comput. 15, 1652 (2019)",
        _doi("10.1021/acs.jctc.8b01176"),
    ),
    "vasp": Work(
        "G. Kresse and J. Furthmüller",
        "Efficient iterative schemes for ab initio total-energy calculations using a plane-wave "
        "basis set",
        "Phys. Rev. B 54, 11169 (1996)",
        _doi("10.1103/PhysRevB.54.11169"),
    ),
    "paw": Work(
        "G. Kresse and D. Joubert",
        "From ultrasoft pseudopotentials to the projector augmented-wave method",
        "Phys. Rev. B 59, 1758 (1999)",
        _doi("10.1103/PhysRevB.59.1758"),
    ),
    "gpaw": Work(
        "J. J. Mortensen et al.",
        "GPAW: An open Python package for electronic structure calculations",
        "J. Chem. Phys. 160, 092503 (2024)",
        _doi("10.1063/5.0182685"),
    ),
    "cp2k": Work(
        "T. D. Kühne et al.",
        "CP2K: An electronic structure and molecular dynamics software package - Quickstep: "
        "Efficient and accurate electronic structure calculations",
        "J. Chem. Phys. 152, 194103 (2020)",
        _doi("10.1063/5.0007045"),
    ),
    "molopt": Work(
        "J. VandeVondele and J. Hutter",
        "Gaussian basis sets for accurate calculations on molecular systems in gas and condensed "
        "phases",
        "J. Chem. Phys. 127, 114105 (2007)",
        _doi("10.1063/1.2770708"),
    ),
    "gth": Work(
        "S. Goedecker, M. Teter and J. Hutter",
        "Separable dual-space Gaussian pseudopotentials",
        "Phys. Rev. B 54, 1703 (1996)",
        _doi("10.1103/PhysRevB.54.1703"),
    ),
    "pbe": Work(
        "J. P. Perdew, K. Burke and M. Ernzerhof",
        "Generalized gradient approximation made simple",
        "Phys. Rev. Lett. 77, 3865 (1996)",
        _doi("10.1103/PhysRevLett.77.3865"),
    ),
    "hse": Work(
        "J. Heyd, G. E. Scuseria and M. Ernzerhof",
        "Hybrid functionals based on a screened Coulomb potential",
        "J. Chem. Phys. 118, 8207 (2003); 124, 219906 (2006)",
        _doi("10.1063/1.1564060"),
    ),
    "fnv": Work(
        "C. Freysoldt, J. Neugebauer and C. G. Van de Walle",
        "Fully ab initio finite-size corrections for charged-defect supercell calculations",
        "Phys. Rev. Lett. 102, 016402 (2009)",
        _doi("10.1103/PhysRevLett.102.016402"),
    ),
    "efnv": Work(
        "Y. Kumagai and F. Oba",
        "Electrostatics-based finite-size corrections for first-principles point defect "
        "calculations",
        "Phys. Rev. B 89, 195205 (2014)",
        _doi("10.1103/PhysRevB.89.195205"),
    ),
    "pydefect": Work(
        "Y. Kumagai, N. Tsunoda, A. Takahashi and F. Oba",
        "Insights into oxygen vacancies from high-throughput first-principles calculations",
        "Phys. Rev. Mater. 5, 123803 (2021)",
        _doi("10.1103/PhysRevMaterials.5.123803"),
    ),
    "anisotropic": Work(
        "S. T. Murphy and N. D. M. Hine",
        "Anisotropic charge screening and supercell size convergence of defect formation energies",
        "Phys. Rev. B 87, 094111 (2013)",
        _doi("10.1103/PhysRevB.87.094111"),
    ),
    "mace_mp": Work(
        "I. Batatia et al.",
        "A foundation model for atomistic materials chemistry",
        "arXiv (2023)",
        "arXiv:2401.00096",
    ),
    "mace_mh": Work(
        "I. Batatia et al.",
        "Cross learning between electronic structure theories for unifying molecular, surface, and "
        "inorganic crystal foundation force fields",
        "arXiv (2025)",
        "arXiv:2510.25380",
    ),
    "d3": Work(
        "S. Grimme, J. Antony, S. Ehrlich and H. Krieg",
        "A consistent and accurate ab initio parametrization of density functional dispersion "
        "correction (DFT-D) for the 94 elements H-Pu",
        "J. Chem. Phys. 132, 154104 (2010)",
        _doi("10.1063/1.3382344"),
    ),
    "d3_bj": Work(
        "S. Grimme, S. Ehrlich and L. Goerigk",
        "Effect of the damping function in dispersion corrected density functional theory",
        "J. Comput. Chem. 32, 1456 (2011)",
        _doi("10.1002/jcc.21759"),
    ),
    "dudarev": Work(
        "S. L. Dudarev, G. A. Botton, S. Y. Savrasov, C. J. Humphreys and A. P. Sutton",
        "Electron-energy-loss spectra and the structural stability of nickel oxide: An LSDA+U "
        "study",
        "Phys. Rev. B 57, 1505 (1998)",
        _doi("10.1103/PhysRevB.57.1505"),
    ),
}  # fmt: skip
