"""Run a daemon of `cloud` under a name of its own, its pid in a file.

usage: run_named.py PIDFILE NAME moto_server ARGS...     (or: ... SCRIPT.py ARGS...)
"""

import os
import runpy
import sys
from pathlib import Path


def moto(args):
    import large_objects  # beside this file
    import moto.server
    from moto.moto_server.utilities import RegexConverter

    large_objects.install()

    def converter(self, url_map, *items):
        made(self, url_map, *items)
        self.regex = f"(?s:{self.regex})"  # a key may have newlines, which moto's patterns stop at

    made, RegexConverter.__init__ = RegexConverter.__init__, converter

    def run_simple(host, port, app, **options):
        def fixed(environ, start_response):
            # On AWS the version "null" is the only version of an object in a bucket
            # without versioning; moto offers it after a multipart upload, but then
            # answers 400 to those who ask for it, as rclone does.
            query = environ.get("QUERY_STRING", "").split("&")
            environ["QUERY_STRING"] = "&".join(part for part in query if part != "versionId=null")
            return app(environ, start_response)

        serve(host, port, fixed, **options)

    serve = moto.server.run_simple
    moto.server.run_simple = run_simple
    moto.server.main(args)


def main():
    pidfile, name, program, *args = sys.argv[1:]
    Path("/proc/self/comm").write_text(name)  # so that a stale pid file cannot mislead `down`
    Path(pidfile).write_text(f"{os.getpid()}\n")
    if program == "moto_server":
        moto(args)
    else:
        sys.argv = [program, *args]
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
