"""Paired, corrected comparisons of models from run directories, and the regression gate built on them."""
