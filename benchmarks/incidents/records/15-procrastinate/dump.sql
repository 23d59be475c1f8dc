--
-- PostgreSQL database dump
--


-- Dumped from database version 18.6
-- Dumped by pg_dump version 18.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

--
-- Name: job_harness_audit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) NOT NULL,
    job text NOT NULL,
    before jsonb,
    after jsonb
)
PARTITION BY RANGE (at);


--
-- Name: TABLE job_harness_audit; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "procrastinate", "table": "procrastinate_jobs", "columns": {"id": "job.id", "status": "job.status", "tool": "job.task_name", "priority": "job.priority", "worker": "job.worker_id::text"}, "status": {"todo": "PENDING", "doing": "PROCESSING", "succeeded": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED", "aborting": null, "aborted": "CANCELLED"}, "deletes": false, "time_zone": null}';


SET default_table_access_method = heap;

--
-- Name: job_harness_audit_20261201; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.job_harness_audit_20261201 (
    id bigint CONSTRAINT job_harness_audit_id_not_null NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() CONSTRAINT job_harness_audit_at_not_null NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() CONSTRAINT job_harness_audit_xid_not_null NOT NULL,
    writer text DEFAULT current_setting('application_name'::text) CONSTRAINT job_harness_audit_writer_not_null NOT NULL,
    job text CONSTRAINT job_harness_audit_job_not_null NOT NULL,
    before jsonb,
    after jsonb
);


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.job_harness_audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.job_harness_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: job_harness_audit_20261201; Type: TABLE ATTACH; Schema: public; Owner: -
--

ALTER TABLE ONLY public.job_harness_audit ATTACH PARTITION public.job_harness_audit_20261201 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2026-12-02 00:00:00+00');


--
-- Data for Name: job_harness_audit_20261201; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.job_harness_audit_20261201 (id, at, xid, writer, job, before, after) FROM stdin;
1	2026-12-01 11:20:47.334701+00	1977	sender	1	\N	{"id": "1", "tool": "work", "status": "todo", "worker": null, "priority": 0}
2	2026-12-01 11:20:47.532374+00	1978	sender	2	\N	{"id": "2", "tool": "work", "status": "todo", "worker": null, "priority": 0}
3	2026-12-01 11:20:47.675178+00	1980	sender	3	\N	{"id": "3", "tool": "work", "status": "todo", "worker": null, "priority": 0}
4	2026-12-01 11:20:47.68476+00	1981	worker-1	1	{"id": "1", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "1", "tool": "work", "status": "doing", "worker": "1", "priority": 0}
5	2026-12-01 11:20:48.380415+00	1982	worker-1	1	{"id": "1", "tool": "work", "status": "doing", "worker": "1", "priority": 0}	{"id": "1", "tool": "work", "status": "succeeded", "worker": "1", "priority": 0}
6	2026-12-01 11:20:48.607214+00	1984	worker-1	2	{"id": "2", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "2", "tool": "work", "status": "doing", "worker": "1", "priority": 0}
7	2026-12-01 11:20:49.984432+00	1988	worker-2	3	{"id": "3", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "3", "tool": "work", "status": "doing", "worker": "2", "priority": 0}
8	2026-12-01 11:20:50.929745+00	1989	worker-2	3	{"id": "3", "tool": "work", "status": "doing", "worker": "2", "priority": 0}	{"id": "3", "tool": "work", "status": "succeeded", "worker": "2", "priority": 0}
9	2026-12-01 11:20:56.612212+00	1997	worker-2	2	{"id": "2", "tool": "work", "status": "doing", "worker": "1", "priority": 0}	{"id": "2", "tool": "work", "status": "todo", "worker": "1", "priority": 0}
10	2026-12-01 11:20:57.399324+00	1999	worker-2	2	{"id": "2", "tool": "work", "status": "todo", "worker": "1", "priority": 0}	{"id": "2", "tool": "work", "status": "doing", "worker": "2", "priority": 0}
11	2026-12-01 11:21:02.692292+00	2006	worker-1	2	{"id": "2", "tool": "work", "status": "doing", "worker": "2", "priority": 0}	{"id": "2", "tool": "work", "status": "succeeded", "worker": "2", "priority": 0}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 11, true);


--
-- PostgreSQL database dump complete
--


