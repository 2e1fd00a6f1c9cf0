-- A bank: every transfer moves money between two of a hundred accounts and leaves a line in a log.
CREATE DATABASE bank;
USE bank;
CREATE TABLE account (id INT PRIMARY KEY, amount BIGINT NOT NULL) ENGINE=ROCKSDB;
INSERT INTO account SELECT seq, 1000 FROM seq_1_to_100;
CREATE TABLE log (id BIGINT AUTO_INCREMENT PRIMARY KEY, source INT, target INT, amount INT, filler VARCHAR(2000)) ENGINE=ROCKSDB;
CREATE TABLE old (id BIGINT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(100)) ENGINE=ARIA;
DELIMITER //
CREATE PROCEDURE trade() BEGIN
  DECLARE f, t, n INT;
  LOOP
    SET f = 1 + FLOOR(RAND() * 100), t = 1 + FLOOR(RAND() * 100), n = FLOOR(RAND() * 50);
    START TRANSACTION;
    UPDATE account SET amount = amount - n WHERE id = LEAST(f, t);
    UPDATE account SET amount = amount + n WHERE id = GREATEST(f, t);
    INSERT INTO log (source, target, amount, filler) VALUES (f, t, n, REPEAT(UUID(), 30));
    COMMIT;
  END LOOP;
END //
-- Rows of another engine, one after another.
CREATE PROCEDURE note() BEGIN
  LOOP INSERT INTO old (note) VALUES (UUID()); END LOOP;
END //
-- Every number into one engine and then into the other.
CREATE PROCEDURE pair() BEGIN
  DECLARE n BIGINT DEFAULT 0;
  LOOP
    SET n = n + 1;
    INSERT INTO log (id, source, target, amount) VALUES (n, 1, 1, 0);
    INSERT INTO old (id, note) VALUES (n, 'the same');
  END LOOP;
END //
DELIMITER ;
