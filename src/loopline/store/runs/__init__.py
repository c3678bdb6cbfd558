"""The run log: experiments, runs, and what is logged of them, found and read at speed."""
