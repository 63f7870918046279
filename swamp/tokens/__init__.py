"""Who may join: enrollment tokens and the machines they bound."""
