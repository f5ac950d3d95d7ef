# SPDX-License-Identifier: Apache-2.0
"""Endless scenes on the training device: worlds are sampled by worker processes, then rendered,
photographed and turned into targets in batches where the network learns. The same scenes as
training.scenes, which is the reference: what is exact there is exact here.
"""
