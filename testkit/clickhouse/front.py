"""Current ClickHouse behind its HTTP interface, as far as ringdns uses it: `front.py FOLDER PORT`.

The engine is chdb's, which is ClickHouse in this process: SQL, types, tables, TTL, views and
deduplication are the real ones, on files in FOLDER that persist. This file adds the rest: HTTP, the
user `default` with the password in FOLDER/password, and the head of an inserted block, whose
checksum is not verified. Users with fewer rights and system.processes are missing.

While there is a file FOLDER/hold, insertions wait before they begin, as in a slow server that does
not say so.
"""

import http.server
import os
import sys
import threading
import time
import urllib.parse

from chdb import session

FOLDER, PORT = sys.argv[1], int(sys.argv[2])
SESSION = session.Session(os.path.join(FOLDER, "data"))
PASSWORD = open(os.path.join(FOLDER, "password"), encoding="ascii").read().rstrip("\n")
# Parameters of HTTP or of this front. All others are settings of the engine, which refuses those
# that it does not know.
NO_SETTINGS = {"query", "query_id", "decompress", "wait_end_of_query"}
# Head of a block: CityHash (16 bytes), method, length from the method on, uncompressed length.
BLOCK_HEAD, ZSTD = 25, 0x90


class Refused(Exception):
    pass


def insert(parameters, block):
    """Inserts one compressed block, which is the whole body."""
    query, form = parameters["query"], " FORMAT RowBinary"
    if not query.startswith("INSERT INTO ") or not query.endswith(form) or parameters.get("decompress") != "1":
        raise Refused("Code: 62. DB::Exception: an INSERT of one compressed block of RowBinary is expected")
    whole = int.from_bytes(block[17:21], "little") + 16
    if len(block) != whole or block[16] != ZSTD:
        raise Refused("Code: 271. DB::Exception: Data compressed with different methods, or cut off")
    while os.path.exists(os.path.join(FOLDER, "hold")):
        time.sleep(0.01)
    settings = {name: value for name, value in parameters.items() if name not in NO_SETTINGS}
    settings = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
    rows = os.path.join(FOLDER, f"insert-{threading.get_ident()}.zst")
    try:
        with open(rows, "wb") as file:
            file.write(block[BLOCK_HEAD:])
        run(f"{query.removesuffix(form)} FROM INFILE '{rows}' COMPRESSION 'zstd' SETTINGS {settings}{form}")
    finally:
        os.remove(rows)
    return b""


def run(query):
    return bytes(SESSION.query(query, "TabSeparated").bytes() or b"")


class Front(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
        status, answer = 200, b""
        try:
            if (self.headers["x-clickhouse-user"], self.headers["x-clickhouse-key"]) != ("default", PASSWORD):
                raise Refused("Code: 516. DB::Exception: default: Authentication failed: password is incorrect")
            answer = insert(parameters, body) if "query" in parameters else run(body.decode())
        # chdb raises errors of many classes.
        except Exception as error:  # pylint: disable=broad-except
            status, answer = 500, f"{error}\n".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format, *arguments):  # pylint: disable=redefined-builtin
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        print("a client left:", sys.exc_info()[1], flush=True)


server = Server(("127.0.0.1", PORT), Front)
print("Ready for connections", flush=True)
server.serve_forever()
