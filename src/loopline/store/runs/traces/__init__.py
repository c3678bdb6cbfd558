"""Traces: what a program did to answer, span by span, beside the runs it belongs to."""
