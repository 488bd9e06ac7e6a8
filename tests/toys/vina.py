"""Stand-ins for Vina and meeko, as text: a score is the length of a name, and some names mean trouble."""

VINA = """
import os
from pathlib import Path


class Vina:
    def __init__(self, sf_name, cpu, seed, verbosity):
        self.log = Path(__file__).with_name("docked")

    def set_receptor(self, path):
        assert "ATOM" in Path(path).read_text()

    def compute_vina_maps(self, center, box_size):
        assert len(center) == len(box_size) == 3

    def set_ligand_from_string(self, text):
        self.name = text

    def dock(self, exhaustiveness, n_poses, max_evals):
        with self.log.open("a") as file:
            file.write(f"{self.name} {exhaustiveness} {max_evals}\\n")
        once = self.log.with_name("once")
        if self.name == "CCS" and not once.exists():
            once.touch()
            os.kill(os.getpid(), 9)
        if self.name == "CCBr":
            raise RuntimeError("an atom is outside of the box\\nby far")

    def energies(self, n_poses):
        return [[-float(len(self.name))]]

    def poses(self, n_poses):
        return self.name
"""

MEEKO = """
from rdkit import Chem


class MoleculePreparation:
    def prepare(self, molecule):
        return [molecule]


class PDBQTWriterLegacy:
    @staticmethod
    def write_string(molecule):
        smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule))
        return smiles, smiles != "CCF", "it has an atom without a type"


class PDBQTMolecule(str):
    def __new__(cls, text, skip_typing):
        return super().__new__(cls, text)


class RDKitMolCreate:
    @staticmethod
    def from_pdbqt_mol(pose):
        return [Chem.MolFromSmiles(pose)]
"""
