"""Data of a run: where it lies (locations, stores), what is to be moved (transfers), and moving it (mover).

    stores = Stores(Settings(folder=Path.cwd()))
    mover = Mover(stores, post=inbox.put, transfers=4)
    mover.stage(Request(1, parse("s3://genomes/panel/*.fa.gpg"), parse("ref/")))      # posts Found, Begun, Advanced …, Staged

Everything that may block happens in the mover's threads; they only call `post`.
"""
