#!/usr/bin/env python3
"""Writes golden.json: what Python's configparser makes of every file in cases/.

Run by hand when a case is added: python3 golden.py
"""
import configparser
import json
import pathlib
import sys

here = pathlib.Path(__file__).parent
golden = {}
for case in sorted((here / "cases").glob("*.ini")):
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(case, encoding="utf-8") as file:
            parser.read_file(file)
        golden[case.name] = {section: dict(parser[section]) for section in parser.sections()}
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or getattr(error, "errors", [[None]])[0][0]
        golden[case.name] = {"error": type(error).__name__, "line": line}
(here / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
print(f"{len(golden)} cases, Python {sys.version.split()[0]}")
