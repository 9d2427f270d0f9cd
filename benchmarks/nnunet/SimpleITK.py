"""Stands in for SimpleITK where it is not installed, so that nnU-Net can be imported without its 52 MB.

nnU-Net imports SimpleITK in readers of formats that this comparison does not use: slices go in and out as PNG.  Nothing
is re-enacted here: whoever calls for anything of it gets an error.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    raise AttributeError(f"SimpleITK is not installed, so there is no SimpleITK.{name}")
