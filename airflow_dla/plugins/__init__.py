"""What Airflow loads by itself: routes behind the operators' links, and listeners."""
