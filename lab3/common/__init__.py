"""What every subpackage uses: files, paths, the machine, progress bars, plots."""
