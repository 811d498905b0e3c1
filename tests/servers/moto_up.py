"""moto's S3 on loopback, in a process of its own: the semantics of Amazon's, without its signatures and digests.

Everything is in memory. Runs until it is ended, or its parent ends.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import signal
import threading
import urllib.request

from moto.server import ThreadedMotoServer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", help="not used: nothing is written")
    parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # The first request loads its S3: half a second that no test with a short timeout has to wait for.
    urllib.request.urlopen(f"http://{host}:{port}/", timeout=60).close()
    print("READY " + json.dumps({"url": f"http://{host}:{port}", "port": port}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
