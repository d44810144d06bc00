"""The figures of the known scenes: shared by the process that renders them and the tests that check
them.
"""

WIDTH, HEIGHT = 512, 256
POSITION = (0.3, -0.2, 1.1)
YAW, PITCH, ROLL = 37.0, 11.0, -5.0
ROOM_RADIUS, BALL_RADIUS, BALL_DISTANCE = 5.0, 0.4, 3.0
# (lon, lat) in degrees: plain ones, one across the seam, one at each pole
BALLS = [(0, 0), (60, 25), (-100, -40), (135, 50), (180, 10), (0, 90), (0, -90)]
