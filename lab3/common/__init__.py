"""What every room uses: files, paths, the machine, progress bars, plots."""
