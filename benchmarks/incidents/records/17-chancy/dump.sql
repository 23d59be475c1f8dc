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
1	2026-12-01 11:16:10.829612+00	1109	sender	03fcfa68-94ab-7587-851a-33896d54f699	\N	{"id": "03fcfa68-94ab-7587-851a-33896d54f699", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T11:16:10.768008+00:00", "started_at": null, "unique_key": "one", "start_after": "2026-12-01T11:16:10.766603+00:00", "completed_at": null, "max_attempts": 3}
2	2026-12-01 11:16:10.888607+00	1110	worker-1	03fcfa68-94ab-7587-851a-33896d54f699	{"id": "03fcfa68-94ab-7587-851a-33896d54f699", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T11:16:10.768008+00:00", "started_at": null, "unique_key": "one", "start_after": "2026-12-01T11:16:10.766603+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-94ab-7587-851a-33896d54f699", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.768008+00:00", "started_at": "2026-12-01T11:16:10.885779+00:00", "unique_key": "one", "start_after": "2026-12-01T11:16:10.766603+00:00", "completed_at": null, "max_attempts": 3}
3	2026-12-01 11:16:10.940563+00	1111	sender	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	\N	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": null, "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}
4	2026-12-01 11:16:11.114406+00	1112	worker-2	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "pending", "worker": null, "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": null, "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "running", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}
5	2026-12-01 11:16:11.71113+00	1122	worker-1	03fcfa68-94ab-7587-851a-33896d54f699	{"id": "03fcfa68-94ab-7587-851a-33896d54f699", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.768008+00:00", "started_at": "2026-12-01T11:16:10.885779+00:00", "unique_key": "one", "start_after": "2026-12-01T11:16:10.766603+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-94ab-7587-851a-33896d54f699", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.768008+00:00", "started_at": "2026-12-01T11:16:10.885779+00:00", "unique_key": "one", "start_after": "2026-12-01T11:16:10.766603+00:00", "completed_at": "2026-12-01T11:16:11.54062+00:00", "max_attempts": 3}
6	2026-12-01 11:16:58.201786+00	1423	sender	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "running", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "pending", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}
7	2026-12-01 11:16:58.373364+00	1426	worker-1	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "pending", "worker": "worker-2", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:58.330853+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}
8	2026-12-01 11:17:25.672804+00	1597	worker-2	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "running", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:58.330853+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": null, "max_attempts": 3}	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": "2026-12-01T11:17:24.854238+00:00", "max_attempts": 3}
9	2026-12-01 11:18:12.718716+00	1905	worker-1	03fcfa68-95c3-d107-a94f-c4a2bbaf79aa	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:11.038837+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": "2026-12-01T11:17:24.854238+00:00", "max_attempts": 3}	{"id": "03fcfa68-95c3-d107-a94f-c4a2bbaf79aa", "tool": "chancy_worker.work", "status": "succeeded", "worker": "worker-1", "priority": 0, "created_at": "2026-12-01T11:16:10.881634+00:00", "started_at": "2026-12-01T11:16:58.330853+00:00", "unique_key": "two", "start_after": "2026-12-01T11:16:10.881404+00:00", "completed_at": "2026-12-01T11:18:12.159629+00:00", "max_attempts": 3}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 9, true);


--
-- PostgreSQL database dump complete
--


