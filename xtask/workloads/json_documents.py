"""Documents are built, written as JSON and read again; the last three stay.

usage: python3 json_documents.py [ROUNDS] [ROWS]
With PYTHONMALLOC=malloc every object is one of the C library's allocator.
"""
import json
import sys


def document(version, rows):
    return [
        {"number": row, "name": f"customer {row * 31 + version}", "orders": list(range(row % 7)), "balance": row / 3}
        for row in range(rows)
    ]


def main(rounds=6, rows=20000):
    kept = []
    for version in range(rounds):
        kept.append(json.loads(json.dumps(document(version, rows))))
        del kept[:-3]
    assert len(kept[-1]) == rows


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
