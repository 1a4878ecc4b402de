"""What the module reads of strangers, on bytes that nobody meant, under sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from router.planes.envoy import module
from router.planes.envoy.emission import rows_header

HERE = Path(__file__).parent
INPUTS = int(os.environ.get("FUZZ_INPUTS", "200000"))
READERS = (
    "caller.c", "client_keys.c", "known.c", "limits.c", "misspelt.c", "patterns.c",
    "scan_chat.c", "scan_oip.c", "sha256.c", "written.c", "keys/keys.c",
)  # fmt: skip
CHECKED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT TESTED: there is no C compiler `cc`")
def test_nothing_that_is_sent_leads_out_of_its_memory(tmp_path):
    (tmp_path / "kernel_rows.h").write_text(rows_header())
    fuzz = tmp_path / "fuzz"
    sources = [HERE / "fuzz.c", *(module.SOURCE / name for name in READERS)]
    built = subprocess.run(
        [
            "cc", "-std=gnu11", "-D_GNU_SOURCE", *CHECKED, f"-DINPUTS={INPUTS}",
            f"-I{tmp_path}", f"-I{module.SOURCE}", *map(str, sources), "-lm", "-o", str(fuzz),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "cannot find -lasan" in built.stderr or "libasan" in built.stderr:
        pytest.skip("NOT TESTED: the C compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([fuzz], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, f"{INPUTS} inputs\n"), ran.stderr[-4000:]
