"""Storage: files that are written whole, locks, CSV, JSON and safetensors."""

__all__ = [
    "append_csv",
    "claim",
    "csv_text",
    "difference",
    "digest",
    "digest_of",
    "lock",
    "make_folder",
    "parse_csv",
    "plain",
    "read_csv",
    "read_json",
    "read_rows",
    "read_tensors",
    "refuse_foreign",
    "refuse_links",
    "whole",
    "write_csv",
    "write_json",
    "write_network",
    "write_tensors",
    "write_whole",
    "writing",
]

from guided.storage.configs import claim, difference, plain, read_json, write_json
from guided.storage.files import (
    digest,
    digest_of,
    make_folder,
    refuse_foreign,
    refuse_links,
    whole,
    write_whole,
    writing,
)
from guided.storage.locks import lock
from guided.storage.tables import append_csv, csv_text, parse_csv, read_csv, read_rows, write_csv
from guided.storage.tensors import read_tensors, write_network, write_tensors
