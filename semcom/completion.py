"""Words for the completion of command lines in a shell, known without importing PyTorch."""

VARIABLE = "_SEMCOM_COMPLETE"
"""Environment variable by which a shell asks for completions."""

STILL = tuple(
    form + kind for kind in ("", "-file") for form in ("jpeg", "jpeg2000", "webp", "avif", "hevc-intra")
)
INTER = tuple(name + speed for name in ("x264", "x265", "av1", "vp9") for speed in ("", "-slow", "-live"))
TEXTS = ("zlib", "utf8", "huffman", "brotli", "zstd", "smollm2", "tiny")
CODECS = (*STILL, "learned", *INTER, "layered", "predictive", "two-sided", "latent", *TEXTS)
"""Names of source codecs."""

METHODS = (
    *(
        "consistency",
        "ddnm",
        "ddrm",
        "diffpir",
        "dps",
        "loop",
        "posterior",
        "refine",
        "interpolate",
        "restore",
        "memory",
    ),
)
"""Names of receivers."""

SCHEMES = (
    *("envelope:csit-average", "genie-envelope", "softcast", "softcast:csit-average", "deepjscc"),
    *("deepjscc:csit-average", "deepjscc-perceptual", "deepjscc-range", "deepjscc-range4"),
    *("deepjscc-range-by-rho", "deepjscc-2019"),
    *(f"{codec}+ldpc:csit-average" for codec in CODECS if codec not in ("predictive", "two-sided", "latent")),
    "predictive:learned:block:auto+ldpc:csit-average",
    "two-sided:learned:block:auto+ldpc:csit-average",
    *(f"avif+ldpc:mcs{row}" for row in range(31)),
    "avif+ideal:csit-average",
    *(f"{codec}+packets:4096:csit-average" for codec in ("av1", "x265", "avif")),
    *("latent:linear+ldpc:csit-average", "latent:kalman:auto+packets:512:csit-average", "latent:kalman"),
    *("zlib+packets:512:csit-average", "smollm2+packets:512:csit-average", "deepsc", "lm-prior:smollm2"),
    *("smollm2+uep:256:rules", "smollm2+uep:256:equal", "smollm2+uep:256:rules+restore"),
    *("softcast-2d", "x265+ldpc:csit-average+refine", "av1+ldpc:csit-average+refine"),
    "x265+packets:4096:csit-average+interpolate",
    *("hybrid:avif:csit-average:softcast-residual", "hybrid:avif:mcs9:softcast-residual:0.6"),
    *("hybrid:avif:mcs9:deepjscc", "hybrid:avif:mcs9:deepjscc:0.5:0:0.1"),
    *("jpeg+ldpc:csit-average+consistency:8", "deepjscc+ddnm:100", "deepjscc+ddrm:8", "deepjscc+diffpir:8"),
    *("deepjscc+dps:1000", "deepjscc+loop:4", "deepjscc+posterior:4", "deepjscc-range+ddnm:100"),
    *("avif+ldpc:csit-average+ddrm:8", "softcast+ddrm:8"),
    *("envelope:csit-average+refine", "avif+ldpc:csit-average+refine"),
)
"""Names that `semcom schemes` lists."""

CHANNELS = (
    *("awgn", "rayleigh:64", "rician:64:6", "jakes:0.01", "ofdm:tdl-a:100:10"),
    *("interleaved/rayleigh:64", "lossy:256:0.1/awgn", "pilots:15/rayleigh:64", "genie/ofdm:tdl-a:100:10"),
    *("no-csi/rician:64:6", "impaired:clip:3+phase-noise:100/awgn"),
)
"""Names that `semcom channels` lists."""

METRICS = (
    *("psnr_db", "ssim", "ms_ssim", "swd", "lpips_squeeze", "lpips_alex", "lpips_vgg", "grid"),
    *("vmaf", "vmaf_neg", "cvvdp", "warp_error", "warp_error_gap", "clip_feature_distance"),
    *("wer", "cer", "bleu", "chrf", "minilm_cosine"),
)
"""Names of metrics of single items."""

SET_METRICS = ("swd_set", "kid_inception", "fid_inception", "fvd_i3d")
"""Names of metrics of sets of items."""

MODALITIES = ("image", "video", "text")
"""Names of modalities."""

RECIPES = (
    "deepjscc",
    "deepjscc-perceptual",
    "deepjscc-2019",
    "learned-codec",
    "prior",
    "refiner",
    "prediction",
    "straightening",
)
"""Names of training recipes."""


def prepare() -> None:
    """Make typer answer the requests of the scripts, which come in the environment variable of `VARIABLE`."""
    from typer.completion import completion_init  # pyright: ignore[reportPrivateImportUsage]

    completion_init()


def script(shell: str) -> str:
    """Script that makes a shell complete the command line of `semcom`.

    Args:
        shell: "bash", "zsh" or "fish".

    Returns:
        The script, for `eval` or a file that the shell reads at its start.
    """
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    text = get_completion_script(prog_name="semcom", complete_var=VARIABLE, shell=shell)
    # bash takes colons for ends of words, and names of schemes and channels have many
    return f"COMP_WORDBREAKS=${{COMP_WORDBREAKS//:/}}\n{text}" if shell == "bash" else text


def last_of_list(words: tuple[str, ...], incomplete: str) -> list[str]:
    """Completions of the last name in a list separated by commas.

    Args:
        words: Known names.
        incomplete: What has been typed of the list.

    Returns:
        Lists with the last name complete.

    Example:
        >>> last_of_list(("softcast", "deepjscc"), "deepjscc,s")
        ['deepjscc,softcast']
    """
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{word}" for word in words if word.startswith(last)]
