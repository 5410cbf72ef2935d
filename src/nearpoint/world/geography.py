"""Where places are, and how long light and routers take between them.

Coordinates are those of the metropolitan area; PoP codes are IATA airport codes, as CloudFront uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_KM = 6371.0
FIBRE_KM_PER_MS = 200.0  # light in glass: about two thirds of c
# Cables bend and packets queue: with these two, Virginia-Ireland comes to 71 ms, Virginia-Tokyo to 139 ms and
# Ireland-Frankfurt to 16 ms of round trip, within a tenth of the published medians between those AWS Regions.
PATH_STRETCH = 1.25
HOP_MS = 2.0
SAME_PLACE_MS = 0.6  # between a PoP and a Region of the same city


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A point on the map. `name` is a Region's (`eu-west-1`) or a PoP's (`FRA`); `country` is ISO 3166-1 alpha-2."""

    name: str
    city: str
    country: str
    latitude: float
    longitude: float


def _places(*rows: tuple[str, str, str, float, float]) -> dict[str, Place]:
    return {
        name: Place(name=name, city=city, country=country, latitude=lat, longitude=lon)
        for name, city, country, lat, lon in rows
    }


REGIONS = _places(
    ("us-east-1", "Ashburn", "US", 39.04, -77.49),
    ("us-east-2", "Columbus", "US", 39.96, -83.00),
    ("us-west-1", "San Francisco", "US", 37.77, -122.42),
    ("us-west-2", "Boardman", "US", 45.84, -119.70),
    ("ca-central-1", "Montreal", "CA", 45.50, -73.57),
    ("sa-east-1", "Sao Paulo", "BR", -23.55, -46.63),
    ("eu-west-1", "Dublin", "IE", 53.35, -6.26),
    ("eu-west-2", "London", "GB", 51.51, -0.13),
    ("eu-west-3", "Paris", "FR", 48.86, 2.35),
    ("eu-central-1", "Frankfurt", "DE", 50.11, 8.68),
    ("eu-north-1", "Stockholm", "SE", 59.33, 18.07),
    ("eu-south-1", "Milan", "IT", 45.46, 9.19),
    ("af-south-1", "Cape Town", "ZA", -33.92, 18.42),
    ("me-south-1", "Manama", "BH", 26.23, 50.59),
    ("ap-south-1", "Mumbai", "IN", 19.08, 72.88),
    ("ap-southeast-1", "Singapore", "SG", 1.35, 103.82),
    ("ap-southeast-2", "Sydney", "AU", -33.87, 151.21),
    ("ap-northeast-1", "Tokyo", "JP", 35.68, 139.69),
    ("ap-northeast-2", "Seoul", "KR", 37.57, 126.98),
    ("ap-northeast-3", "Osaka", "JP", 34.69, 135.50),
    ("ap-east-1", "Hong Kong", "HK", 22.32, 114.17),
)

POPS = _places(
    ("IAD", "Washington", "US", 38.95, -77.45),
    ("JFK", "New York", "US", 40.64, -73.78),
    ("ATL", "Atlanta", "US", 33.64, -84.43),
    ("ORD", "Chicago", "US", 41.98, -87.90),
    ("DFW", "Dallas", "US", 32.90, -97.04),
    ("LAX", "Los Angeles", "US", 33.94, -118.41),
    ("SFO", "San Francisco", "US", 37.62, -122.38),
    ("SEA", "Seattle", "US", 47.45, -122.31),
    ("YUL", "Montreal", "CA", 45.47, -73.74),
    ("GRU", "Sao Paulo", "BR", -23.43, -46.47),
    ("EZE", "Buenos Aires", "AR", -34.82, -58.54),
    ("DUB", "Dublin", "IE", 53.42, -6.27),
    ("LHR", "London", "GB", 51.47, -0.45),
    ("CDG", "Paris", "FR", 49.01, 2.55),
    ("MAD", "Madrid", "ES", 40.47, -3.56),
    ("FRA", "Frankfurt", "DE", 50.03, 8.57),
    ("ZRH", "Zurich", "CH", 47.46, 8.55),
    ("MXP", "Milan", "IT", 45.63, 8.72),
    ("ARN", "Stockholm", "SE", 59.65, 17.92),
    ("WAW", "Warsaw", "PL", 52.17, 20.97),
    ("JNB", "Johannesburg", "ZA", -26.14, 28.25),
    ("DXB", "Dubai", "AE", 25.25, 55.36),
    ("BOM", "Mumbai", "IN", 19.09, 72.87),
    ("SIN", "Singapore", "SG", 1.36, 103.99),
    ("HKG", "Hong Kong", "HK", 22.31, 113.91),
    ("ICN", "Seoul", "KR", 37.46, 126.44),
    ("NRT", "Tokyo", "JP", 35.77, 140.39),
    ("SYD", "Sydney", "AU", -33.95, 151.18),
)

PLACES = REGIONS | POPS
DEFAULT_REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-1")
DEFAULT_EDGES = ("SFO", "ATL", "GRU", "LHR", "FRA", "BOM", "SIN", "SYD")


def distance_km(a: Place, b: Place) -> float:
    """Along the great circle (haversine formula)."""
    lat_a, lat_b = radians(a.latitude), radians(b.latitude)
    half_lat = (lat_b - lat_a) / 2
    half_lon = radians(b.longitude - a.longitude) / 2
    chord = sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))


def rtt_ms(a: Place, b: Place) -> float:
    """A realistic round trip between two places."""
    km = distance_km(a, b)
    if km < 50:
        return SAME_PLACE_MS
    return HOP_MS + PATH_STRETCH * 2 * km / FIBRE_KM_PER_MS


def nearest(place: Place, names: tuple[str, ...]) -> str:
    """Which of the named places is closest; ties go to the first."""
    return min(names, key=lambda name: distance_km(place, PLACES[name]))


def find_place(name: str) -> Place | None:
    """A Region or PoP by name, in any case (`fra`, `EU-WEST-1`), or by city (`frankfurt`)."""
    wanted = name.strip().lower()
    for place in PLACES.values():
        if place.name.lower() == wanted:
            return place
    for place in PLACES.values():
        if place.city.lower() == wanted:
            return place
    return None
