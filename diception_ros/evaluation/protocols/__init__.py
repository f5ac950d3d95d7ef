# SPDX-License-Identifier: Apache-2.0
"""The field's metrics as plain functions on arrays, each under the protocol that gives it meaning.

docs/evaluation.md has every formula's source. Rows of different protocols are never comparable.
"""
