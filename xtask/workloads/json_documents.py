"""Documents are built, written as JSON and read again; the last three that were read stay.

usage: python3 json_documents.py [ROUNDS] [ROWS]
With PYTHONMALLOC=malloc every object is one of the C library's allocator.
"""
import json
import sys


def document(version, rows):
    return [
        {
            "row": row,
            "name": "buyer%d" % (row ^ version),
            "marks": ["m%d" % (row % 97), "x"],
            "price": row / 2,
            "parts": {"first": row, "all": [row, row + 1, row + 2]},
        }
        for row in range(rows)
    ]


def main(rounds=6, rows=20000):
    kept = []
    for version in range(rounds):
        built = document(version, rows)
        written = json.dumps(built)
        kept.append(json.loads(written))
        del kept[:-3]
    assert kept[-1] == built


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
