"""Helpers of the reliability tests: small homes, the command line in a process, killers, the table of faults."""
