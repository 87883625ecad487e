"""Where certificates are looked for, what was seen there, and the alerts that follow: an app of its own."""
