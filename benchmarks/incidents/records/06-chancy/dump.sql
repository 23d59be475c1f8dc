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

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "Chancy", "table": "chancy_jobs", "columns": {"id": "job.id", "status": "job.state", "tool": "job.func", "max_attempts": "job.max_attempts", "worker": "job.taken_by", "created_at": "job.created_at", "start_after": "job.scheduled_at", "started_at": "job.started_at", "completed_at": "job.completed_at", "unique_key": "job.unique_key", "priority": "job.priority"}, "status": {"pending": "PENDING", "running": "PROCESSING", "retrying": "PENDING", "succeeded": "COMPLETED", "failed": "FAILED"}, "deletes": false, "time_zone": null}';


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
1	2026-12-01 03:58:43.600914+00	787	sender	03fcf696-cbf5-0987-938c-74e093ab9328	\N	{"id": "03fcf696-cbf5-0987-938c-74e093ab9328", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T03:58:43.579729+00:00", "started_at": null, "unique_key": "one", "start_after": "2026-12-01T03:58:43.576336+00:00", "completed_at": null, "max_attempts": 3}
2	2026-12-01 03:58:43.646274+00	788	worker-1	03fcf696-cbf5-0987-938c-74e093ab9328	{"id": "03fcf696-cbf5-0987-938c-74e093ab9328", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T03:58:43.579729+00:00", "started_at": null, "unique_key": "one", "start_after": "2026-12-01T03:58:43.576336+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cbf5-0987-938c-74e093ab9328", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.579729+00:00", "started_at": "2026-12-01T03:58:43.640344+00:00", "unique_key": "one", "start_after": "2026-12-01T03:58:43.576336+00:00", "completed_at": null, "max_attempts": 3}
3	2026-12-01 03:58:43.646849+00	789	sender	03fcf696-cc89-db77-b592-bce2069fd8b5	\N	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": null, "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}
4	2026-12-01 03:58:43.737455+00	790	worker-2	03fcf696-cc89-db77-b592-bce2069fd8b5	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": null, "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "running", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}
5	2026-12-01 03:58:44.658683+00	798	worker-1	03fcf696-cbf5-0987-938c-74e093ab9328	{"id": "03fcf696-cbf5-0987-938c-74e093ab9328", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.579729+00:00", "started_at": "2026-12-01T03:58:43.640344+00:00", "unique_key": "one", "start_after": "2026-12-01T03:58:43.576336+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cbf5-0987-938c-74e093ab9328", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.579729+00:00", "started_at": "2026-12-01T03:58:43.640344+00:00", "unique_key": "one", "start_after": "2026-12-01T03:58:43.576336+00:00", "completed_at": "2026-12-01T03:58:44.199771+00:00", "max_attempts": 3}
6	2026-12-01 03:58:52.850038+00	855	sender	03fcf696-cc89-db77-b592-bce2069fd8b5	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "running", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "pending", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}
7	2026-12-01 03:58:52.936466+00	856	worker-1	03fcf696-cc89-db77-b592-bce2069fd8b5	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "pending", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:52.907543+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}
8	2026-12-01 03:59:53.182405+00	1250	worker-2	03fcf696-cc89-db77-b592-bce2069fd8b5	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:52.907543+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": "2026-12-01T03:59:52.891627+00:00", "max_attempts": 3}
9	2026-12-01 04:00:02.344728+00	1313	worker-1	03fcf696-cc89-db77-b592-bce2069fd8b5	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:43.704457+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": "2026-12-01T03:59:52.891627+00:00", "max_attempts": 3}	{"id": "03fcf696-cc89-db77-b592-bce2069fd8b5", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T03:58:43.637499+00:00", "started_at": "2026-12-01T03:58:52.907543+00:00", "unique_key": "two", "start_after": "2026-12-01T03:58:43.637274+00:00", "completed_at": "2026-12-01T04:00:02.045784+00:00", "max_attempts": 3}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 9, true);


--
-- PostgreSQL database dump complete
--


