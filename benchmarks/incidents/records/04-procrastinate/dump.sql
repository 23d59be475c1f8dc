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
1	2026-12-01 03:32:56.468927+00	2124	sender	1	\N	{"id": "1", "tool": "work", "status": "todo", "worker": null, "priority": 0}
2	2026-12-01 03:32:56.507286+00	2125	worker-1	1	{"id": "1", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "1", "tool": "work", "status": "doing", "worker": "1", "priority": 0}
3	2026-12-01 03:32:56.536258+00	2126	sender	2	\N	{"id": "2", "tool": "work", "status": "todo", "worker": null, "priority": 0}
4	2026-12-01 03:32:56.582631+00	2128	sender	3	\N	{"id": "3", "tool": "work", "status": "todo", "worker": null, "priority": 0}
5	2026-12-01 03:32:56.589797+00	2129	worker-2	2	{"id": "2", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "2", "tool": "work", "status": "doing", "worker": "2", "priority": 0}
6	2026-12-01 03:32:57.0768+00	2130	worker-1	1	{"id": "1", "tool": "work", "status": "doing", "worker": "1", "priority": 0}	{"id": "1", "tool": "work", "status": "succeeded", "worker": "1", "priority": 0}
7	2026-12-01 03:32:57.128594+00	2131	worker-1	3	{"id": "3", "tool": "work", "status": "todo", "worker": null, "priority": 0}	{"id": "3", "tool": "work", "status": "doing", "worker": "1", "priority": 0}
8	2026-12-01 03:32:57.901146+00	2134	worker-1	3	{"id": "3", "tool": "work", "status": "doing", "worker": "1", "priority": 0}	{"id": "3", "tool": "work", "status": "succeeded", "worker": "1", "priority": 0}
9	2026-12-01 03:33:03.362933+00	2141	worker-1	2	{"id": "2", "tool": "work", "status": "doing", "worker": "2", "priority": 0}	{"id": "2", "tool": "work", "status": "todo", "worker": "2", "priority": 0}
10	2026-12-01 03:33:03.561189+00	2143	worker-1	2	{"id": "2", "tool": "work", "status": "todo", "worker": "2", "priority": 0}	{"id": "2", "tool": "work", "status": "doing", "worker": "1", "priority": 0}
11	2026-12-01 03:33:09.850836+00	2151	worker-2	2	{"id": "2", "tool": "work", "status": "doing", "worker": "1", "priority": 0}	{"id": "2", "tool": "work", "status": "succeeded", "worker": "1", "priority": 0}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 11, true);


--
-- PostgreSQL database dump complete
--


