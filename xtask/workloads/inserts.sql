-- A table in memory: 200,000 rows, an index, and every third row out again.
-- usage: sqlite3 :memory: < inserts.sql
CREATE TABLE parts(number INTEGER PRIMARY KEY, label TEXT, price REAL, picture BLOB);
BEGIN;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
INSERT INTO parts SELECT n, 'part ' || (n * 7919 % 1000003), n / 8.0, randomblob(n % 80) FROM numbers;
COMMIT;
CREATE INDEX by_label ON parts(label);
SELECT count(*), max(label), sum(price) FROM parts;
DELETE FROM parts WHERE number % 3 = 1;
VACUUM;
SELECT count(*), length(group_concat(label)) FROM parts;
