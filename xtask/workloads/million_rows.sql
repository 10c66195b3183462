-- A table of a million rows in memory: filled in one statement, indexed, added up, and a third of it out again.
-- usage: sqlite3 :memory: < million_rows.sql
PRAGMA journal_mode = MEMORY;
CREATE TABLE readings(number INTEGER PRIMARY KEY, sensor TEXT, value REAL, raw BLOB);
BEGIN;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000000)
INSERT INTO readings SELECT n, 'dev' || (n * 2654435761 % 1000003), n / 4.0, zeroblob(n % 64) FROM numbers;
COMMIT;
CREATE INDEX by_sensor ON readings(sensor);
SELECT count(*), max(sensor), sum(value) FROM readings;
DELETE FROM readings WHERE number % 3 = 0;
SELECT count(*) FROM readings;
