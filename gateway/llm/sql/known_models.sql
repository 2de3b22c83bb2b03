-- purpose: the names of all models that have a price
SELECT DISTINCT model FROM model_prices ORDER BY model
