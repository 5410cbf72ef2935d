"""What is known of people in a place: country, subdivision (ISO 3166), time zone (IANA). Pure."""

from __future__ import annotations

from typing import Any

from nearpoint.world.geography import Place

_COUNTRIES = {
    "AE": "United Arab Emirates", "AR": "Argentina", "AU": "Australia", "BH": "Bahrain", "BR": "Brazil", "CA": "Canada",
    "CH": "Switzerland", "DE": "Germany", "ES": "Spain", "FR": "France", "GB": "United Kingdom", "HK": "Hong Kong",
    "IE": "Ireland", "IN": "India", "IT": "Italy", "JP": "Japan", "KR": "South Korea", "PL": "Poland", "SE": "Sweden",
    "SG": "Singapore", "US": "United States", "ZA": "South Africa",
}  # fmt: skip
# By city: the subdivision's code and name, the time zone.
_CITIES = {
    "Ashburn": ("VA", "Virginia", "America/New_York"),
    "Washington": ("DC", "District of Columbia", "America/New_York"),
    "Columbus": ("OH", "Ohio", "America/New_York"),
    "New York": ("NY", "New York", "America/New_York"),
    "Atlanta": ("GA", "Georgia", "America/New_York"),
    "Chicago": ("IL", "Illinois", "America/Chicago"),
    "Dallas": ("TX", "Texas", "America/Chicago"),
    "San Francisco": ("CA", "California", "America/Los_Angeles"),
    "Los Angeles": ("CA", "California", "America/Los_Angeles"),
    "Boardman": ("OR", "Oregon", "America/Los_Angeles"),
    "Seattle": ("WA", "Washington", "America/Los_Angeles"),
    "Montreal": ("QC", "Quebec", "America/Toronto"),
    "Sao Paulo": ("SP", "Sao Paulo", "America/Sao_Paulo"),
    "Buenos Aires": ("C", "Buenos Aires F.D.", "America/Argentina/Buenos_Aires"),
    "Dublin": ("L", "Leinster", "Europe/Dublin"),
    "London": ("ENG", "England", "Europe/London"),
    "Paris": ("IDF", "Ile-de-France", "Europe/Paris"),
    "Madrid": ("MD", "Madrid", "Europe/Madrid"),
    "Frankfurt": ("HE", "Hesse", "Europe/Berlin"),
    "Zurich": ("ZH", "Zurich", "Europe/Zurich"),
    "Milan": ("25", "Lombardy", "Europe/Rome"),
    "Stockholm": ("AB", "Stockholm", "Europe/Stockholm"),
    "Warsaw": ("14", "Mazovia", "Europe/Warsaw"),
    "Cape Town": ("WC", "Western Cape", "Africa/Johannesburg"),
    "Johannesburg": ("GP", "Gauteng", "Africa/Johannesburg"),
    "Manama": ("13", "Manama", "Asia/Bahrain"),
    "Dubai": ("DU", "Dubai", "Asia/Dubai"),
    "Mumbai": ("MH", "Maharashtra", "Asia/Kolkata"),
    "Singapore": ("", "", "Asia/Singapore"),
    "Hong Kong": ("", "", "Asia/Hong_Kong"),
    "Seoul": ("11", "Seoul", "Asia/Seoul"),
    "Tokyo": ("13", "Tokyo", "Asia/Tokyo"),
    "Osaka": ("27", "Osaka", "Asia/Tokyo"),
    "Sydney": ("NSW", "New South Wales", "Australia/Sydney"),
}


def whereabouts(place: Place) -> dict[str, Any]:
    """The fields of `nearpoint.edge.viewer.Whereabouts` for viewers there."""
    region, region_name, time_zone = _CITIES.get(place.city, ("", "", ""))
    return {
        "country": place.country,
        "country_name": _COUNTRIES.get(place.country, ""),
        "region": region,
        "region_name": region_name,
        "city": place.city,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "time_zone": time_zone,
    }
