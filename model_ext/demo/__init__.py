"""The recipe of the demonstration model: data, training configurations, evaluation, weights."""
