"""Write the base graphs of TS 38.212 as channels/tables/ldpc_base_graphs.csv.

Run:     python scripts/make_ldpc_tables.py        (in an environment with sionna-no-rt >= 2.2)
Cost:    one second
Expect:  316 lines of base graph 1 and 197 of base graph 2

Tables 5.3.2-2 and 5.3.2-3 are facts of the standard; Sionna's wheel carries them as spreadsheets. One line of
ours is one edge: base graph, row, column, and the shift V for the eight sets of lifting sizes.
"""

import csv
import importlib.util
from pathlib import Path

TABLE = Path(__file__).parents[1] / "channels" / "tables" / "ldpc_base_graphs.csv"


def edges(path: Path, base_graph: int) -> list[str]:
    lines: list[str] = []
    row = ""
    with path.open() as file:
        for cells in list(csv.reader(file, delimiter=";"))[2:]:
            row = cells[0] or row
            lines.append(",".join((str(base_graph), row, *cells[1:10])))
    return lines


def main() -> None:
    spec = importlib.util.find_spec("sionna")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Sionna is not installed here: pip install sionna-no-rt")
    codes = Path(spec.submodule_search_locations[0]) / "phy" / "fec" / "ldpc" / "codes"
    head = "base_graph,row,column," + ",".join(f"shift_set{i}" for i in range(8))
    graphs = [edges(codes / f"5G_bg{g}.csv", g) for g in (1, 2)]
    TABLE.write_text("\n".join([head, *graphs[0], *graphs[1]]) + "\n")
    print(f"{TABLE.name}: {len(graphs[0])} + {len(graphs[1])} edges")


if __name__ == "__main__":
    main()
