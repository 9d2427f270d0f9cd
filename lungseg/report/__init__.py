"""The report: one HTML file that people look at, with pictures before numbers, and that loads nothing from anywhere.

``case_file.write_case`` renders a patient while the masks are at hand, ``evaluation_page.write_report`` and
``scan_page.write_scan_report`` make the pages.  Everything that a page says comes in as plain data (``content``).
"""
