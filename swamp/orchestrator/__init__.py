"""`swamp serve`: accepts runs, places steps on targets, records what comes back."""
