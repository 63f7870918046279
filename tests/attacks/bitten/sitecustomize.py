"""Python imports this at its start where this directory is on its path: takes out the defence that the test names."""

import os

if "ATTACKS_BITE" in os.environ:
    from tests.attacks.bites import every_bite

    every_bite()[os.environ["ATTACKS_BITE"]].take_out()
