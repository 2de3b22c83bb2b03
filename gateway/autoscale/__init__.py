"""How many replicas there should be: the algorithm of Kubernetes' HorizontalPodAutoscaler, also for other hosts."""
