-- How many accounts do not agree with the log of transfers.
SELECT COUNT(*) FROM bank.account LEFT JOIN (SELECT id, SUM(n) AS n FROM (
    SELECT LEAST(source, target) AS id, -amount AS n FROM bank.log UNION ALL
    SELECT GREATEST(source, target), amount FROM bank.log) moves GROUP BY id) net USING (id)
WHERE account.amount <> 1000 + COALESCE(n, 0);
