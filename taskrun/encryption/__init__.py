"""Who may read what leaves the run's folder (rules), and GnuPG, which makes it so (gpg)."""
