"""TIME: how long counted work takes on a machine, whether it fits, and what power it draws. Knows no dollars."""
