"""Tables of experiments, against arithmetic by hand."""

from semcom.experiment import difference_table, markdown_tables


def test_differences_are_in_db_or_in_percent_of_the_reference_at_the_point() -> None:
    """Two items, two SNRs; of the second scheme one item was not measured at one of them."""
    import pandas as pd

    rows = [
        ("plain", "a", 0.0, 20.0, 0.4),
        ("plain", "b", 0.0, 22.0, 0.2),
        ("plain", "a", 5.0, 24.0, 0.2),
        ("plain", "b", 5.0, 26.0, 0.2),
        ("other", "a", 0.0, 21.0, 0.1),
        ("other", "b", 0.0, 22.0, 0.2),
        ("other", "a", 5.0, 23.0, 0.1),
    ]
    frame = pd.DataFrame(rows, columns=["scheme", "item", "snr_db", "psnr_db", "lpips"])
    frame = frame.assign(channel="awgn", rho=0.1, seed=0)
    head, _, row = difference_table(frame, "plain", ["psnr_db", "lpips"]).splitlines()
    assert head == "| scheme | psnr_db | lpips |"
    assert row.startswith("| other | +0.00 dB (")
    # item a: -0.3 of 0.3 and -0.1 of 0.2; item b: 0
    assert "| -37.50 % (" in row


def test_one_item_is_tabulated_without_an_interval() -> None:
    import pandas as pd

    rows = [
        ("plain", 0.0, 20.0, 0),
        ("plain", 5.0, 24.0, 1),
        ("other", 0.0, 21.0, 0),
        ("other", 5.0, 26.0, 0),
    ]
    frame = pd.DataFrame(rows, columns=["scheme", "snr_db", "psnr_db", "outage"])
    frame = frame.assign(channel="awgn", rho=0.1, seed=0, item="a")
    assert difference_table(frame, "plain", ["psnr_db"]).splitlines()[-1] == "| other | +1.50 dB |"
    other, plain = markdown_tables(frame, ["psnr_db"], "snr_db").splitlines()[-2:]
    assert other == "| other | 21 | 26 |"
    assert plain == "| plain | 20 | 24 (100% lost) |"
