"""Small files and data sets in published forms, made up here."""

import csv
import json

from steer_core.evaluation.profiles.sets import read_set


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def whole(path, body):
    path.write_text(json.dumps(body), encoding="utf-8")
    return str(path)


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def loaded(row, column):
    return json.loads(row[column])


def rows_of(spec):
    return read_set(spec).items.to_dicts()
