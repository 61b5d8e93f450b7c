"""Runs cloud-init's data source for SmartOS, as installed and unchanged, and tells what it got.

Started by tests (on this machine, or inside a real guest) with Debian's own python. stdout gets one line
of JSON for each attempt, prefixed by `CLOUD-INIT `: {"data": ...} or {"raised": "..."}. A boot has two
attempts: cloud-init looks for its data once before the network is up, and again after it, when the
first one failed. Ends with 0 where one of them brought data.

With --closure it fetches nothing and prints the path of every file that it needs: what goes into a
guest's initrd.
"""

import argparse
import json
import os
import subprocess
import sys

# Loaded by name at run time only; needed here so that --closure tells of them.
import encodings.ascii  # noqa: F401
import encodings.idna  # noqa: F401
import encodings.latin_1  # noqa: F401
import cloudinit.mergers.m_dict  # noqa: F401
import cloudinit.mergers.m_list  # noqa: F401
import cloudinit.mergers.m_str  # noqa: F401

from cloudinit import helpers, util
from cloudinit.sources import DataSourceSmartOS as smartos

ATTEMPTS = 2


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--closure", action="store_true")
    parser.add_argument("--directory", help="where it may write, in place of / ")
    parser.add_argument("--environment", choices=["kvm", "lx-brand"], help="default: found out")
    parser.add_argument("--serial-device", default=smartos.SERIAL_DEVICE)
    parser.add_argument("--serial-timeout", type=int, default=smartos.SERIAL_TIMEOUT)
    parser.add_argument("--socket", default=smartos.METADATA_SOCKFILE)
    return parser.parse_args()


def fetch(options):
    """What cloud-init's boot stages do: make the data source, let it get its data, ask it for more."""
    paths = {}
    if options.directory is not None:
        paths = {"cloud_dir": options.directory + "/cloud", "run_dir": options.directory + "/run"}
        smartos.LEGACY_USER_D = options.directory + "/db"
    if options.environment is not None:
        smartos.DataSourceSmartOS.smartos_type = options.environment
    config = {
        "serial_device": options.serial_device,
        "serial_timeout": options.serial_timeout,
        "metadata_sockfile": options.socket,
    }
    source = smartos.DataSourceSmartOS(
        {"datasource": {"SmartOS": config}}, None, helpers.Paths(paths)
    )
    if not source._get_data():
        raise RuntimeError("no data source: not on SmartOS, or no metadata device")
    return {
        "client": type(source.md_client).__name__,
        "metadata": source.metadata,
        "userdata": source.userdata_raw,
        "vendordata": source.vendordata_raw,
        "network": source.network_config,
    }


def closure():
    """Every file that running this needs, with the libraries by the names they are looked for."""
    modules = [m for m in sys.modules.values() if getattr(m, "__file__", None)]
    files = {m.__file__ for m in modules}
    files |= {c for m in modules if os.path.exists(c := getattr(m, "__cached__", None) or "")}
    programs = [os.path.realpath(sys.executable)] + [f for f in files if f.endswith(".so")]
    reported = subprocess.run(["ldd"] + programs, check=True, stdout=subprocess.PIPE, text=True).stdout
    # `libz.so.1 => /lib/.../libz.so.1 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`, and headings.
    words = [word for line in reported.splitlines() if "(0x" in line for word in line.split()]
    files |= {word for word in words if word.startswith("/")}
    return sorted(files - {os.path.abspath(__file__)} | set(programs))


def main():
    options = arguments()
    if options.closure:
        print("\n".join(closure()))
        return 0
    for _ in range(ATTEMPTS):
        try:
            reported = {"data": fetch(options)}
        # Whatever it is: cloud-init itself logs it, and goes on without this data source.
        except Exception as err:
            util.logexc(smartos.LOG, "the data source failed")
            reported = {"raised": f"{type(err).__name__}: {err}"}
        print("CLOUD-INIT " + json.dumps(reported), flush=True)
        if "data" in reported:
            return 0
    return 1


sys.exit(main())
