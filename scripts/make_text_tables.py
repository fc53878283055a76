"""Make what both sides of classical text codecs know: counts of bytes (Huffman) and a Zstandard dictionary.

Run:     python scripts/make_text_tables.py --books ../shared/data/text/books
Cost:    20 seconds
Expect:  semcom/tables/english_bytes.json and semcom/tables/english.zdict

All books are in the public domain: collected works of Charlotte Brontë, Charles Darwin and W. E. B. Du Bois,
and Pride and Prejudice without the header and footer of Project Gutenberg.
"""

import argparse
import json
from pathlib import Path

from semcom import files

BOOKS = ("bronte.txt", "darwin.txt", "dubois.txt", "pride_and_prejudice.txt")
RUN = 500  # characters of a sample
SIZE = 112_640  # bytes of the dictionary
TABLES = Path(__file__).parents[1] / "semcom" / "tables"


def prose(path: Path) -> str:
    """Text of a book without what Project Gutenberg puts around it, lines joined to paragraphs."""
    text = path.read_text("utf-8").replace("\r\n", "\n")
    start, end = text.find("*** START OF"), text.find("*** END OF")
    if start >= 0:
        text = text[text.index("\n", start) : end if end > 0 else None]
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--books", type=Path, required=True, help="folder of the books")
    folder = parser.parse_args().books
    texts = [prose(folder / book) for book in BOOKS]
    counts = [1] * 257  # every byte may occur; the last one is the end mark
    for text in texts:
        for byte in text.encode("utf-8"):
            counts[byte] += 1
    counts[256] = sum(counts) // RUN
    about = "scripts/make_text_tables.py on " + ", ".join(BOOKS)
    (TABLES / "english_bytes.json").write_text(json.dumps({"about": about, "counts": counts}) + "\n")
    import zstandard

    samples = [
        text[i : i + RUN].encode("utf-8") for text in texts for i in range(0, len(text) - RUN, 5 * RUN)
    ]
    dictionary = zstandard.train_dictionary(SIZE, samples, level=19)
    files.write_whole(TABLES / "english.zdict", dictionary.as_bytes())


if __name__ == "__main__":
    main()
