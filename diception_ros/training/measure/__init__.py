# SPDX-License-Identifier: Apache-2.0
"""What answers are worth: questions with known truth, scores, baselines, tables, pictures.

Nothing here knows a network: whoever answers is a function from questions to colours.
"""
