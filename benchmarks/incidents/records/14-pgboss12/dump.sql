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

COMMENT ON TABLE public.job_harness_audit IS '{"jobs": "pg-boss", "table": "pgboss.job", "columns": {"id": "job.id", "status": "job.state", "tool": "job.name", "priority": "job.priority", "attempts": "CASE WHEN job.started_on IS NULL THEN 0 ELSE job.retry_count + 1 END", "max_attempts": "job.retry_limit + 1", "created_at": "job.created_on", "start_after": "job.start_after", "started_at": "job.started_on", "lease_until": "CASE WHEN job.state = ''active'' THEN LEAST(job.started_on + make_interval(secs => job.expire_seconds), COALESCE((to_jsonb(job) ->> ''heartbeat_on'')::timestamptz, job.started_on) + make_interval(secs => (to_jsonb(job) ->> ''heartbeat_seconds'')::int)) END", "completed_at": "job.completed_on", "output": "CASE WHEN job.state IN (''completed'', ''failed'') THEN job.output END"}, "status": {"created": "PENDING", "retry": "PENDING", "active": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}, "deletes": false, "time_zone": null}';


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
1	2026-12-01 11:14:46.024022+00	885	sender	56432d7a-d5a5-4880-946c-34fd70fa3bc7	\N	{"id": "56432d7a-d5a5-4880-946c-34fd70fa3bc7", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:45.993838+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:45.993838+00:00", "completed_at": null, "max_attempts": 4}
2	2026-12-01 11:14:46.168913+00	889	sender	6184434d-c00b-4f59-b0c2-7d4aa0334e5f	\N	{"id": "6184434d-c00b-4f59-b0c2-7d4aa0334e5f", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:46.168008+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:46.168008+00:00", "completed_at": null, "max_attempts": 4}
3	2026-12-01 11:14:46.224507+00	890	sender	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	\N	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:46.223415+00:00", "completed_at": null, "max_attempts": 4}
4	2026-12-01 11:14:46.392479+00	891	worker-2	56432d7a-d5a5-4880-946c-34fd70fa3bc7	{"id": "56432d7a-d5a5-4880-946c-34fd70fa3bc7", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:45.993838+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:45.993838+00:00", "completed_at": null, "max_attempts": 4}	{"id": "56432d7a-d5a5-4880-946c-34fd70fa3bc7", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:45.993838+00:00", "started_at": "2026-12-01T11:14:46.363969+00:00", "lease_until": "2026-12-01T11:14:54.363969+00:00", "start_after": "2026-12-01T11:14:45.993838+00:00", "completed_at": null, "max_attempts": 4}
5	2026-12-01 11:14:47.057068+00	893	worker-1	6184434d-c00b-4f59-b0c2-7d4aa0334e5f	{"id": "6184434d-c00b-4f59-b0c2-7d4aa0334e5f", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:46.168008+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:46.168008+00:00", "completed_at": null, "max_attempts": 4}	{"id": "6184434d-c00b-4f59-b0c2-7d4aa0334e5f", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.168008+00:00", "started_at": "2026-12-01T11:14:47.035638+00:00", "lease_until": "2026-12-01T11:14:55.035638+00:00", "start_after": "2026-12-01T11:14:46.168008+00:00", "completed_at": null, "max_attempts": 4}
6	2026-12-01 11:14:47.555525+00	899	worker-2	56432d7a-d5a5-4880-946c-34fd70fa3bc7	{"id": "56432d7a-d5a5-4880-946c-34fd70fa3bc7", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:45.993838+00:00", "started_at": "2026-12-01T11:14:46.363969+00:00", "lease_until": "2026-12-01T11:14:54.363969+00:00", "start_after": "2026-12-01T11:14:45.993838+00:00", "completed_at": null, "max_attempts": 4}	{"id": "56432d7a-d5a5-4880-946c-34fd70fa3bc7", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:45.993838+00:00", "started_at": "2026-12-01T11:14:46.363969+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:45.993838+00:00", "completed_at": "2026-12-01T11:14:47.536985+00:00", "max_attempts": 4}
7	2026-12-01 11:14:48.056181+00	901	worker-2	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "created", "attempts": 0, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": null, "lease_until": null, "start_after": "2026-12-01T11:14:46.223415+00:00", "completed_at": null, "max_attempts": 4}	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:48.055094+00:00", "lease_until": "2026-12-01T11:14:56.055094+00:00", "start_after": "2026-12-01T11:14:46.223415+00:00", "completed_at": null, "max_attempts": 4}
8	2026-12-01 11:14:48.289946+00	904	worker-1	6184434d-c00b-4f59-b0c2-7d4aa0334e5f	{"id": "6184434d-c00b-4f59-b0c2-7d4aa0334e5f", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.168008+00:00", "started_at": "2026-12-01T11:14:47.035638+00:00", "lease_until": "2026-12-01T11:14:55.035638+00:00", "start_after": "2026-12-01T11:14:46.168008+00:00", "completed_at": null, "max_attempts": 4}	{"id": "6184434d-c00b-4f59-b0c2-7d4aa0334e5f", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.168008+00:00", "started_at": "2026-12-01T11:14:47.035638+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:46.168008+00:00", "completed_at": "2026-12-01T11:14:48.288865+00:00", "max_attempts": 4}
9	2026-12-01 11:14:57.182647+00	946	worker-1	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "active", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:48.055094+00:00", "lease_until": "2026-12-01T11:14:56.055094+00:00", "start_after": "2026-12-01T11:14:46.223415+00:00", "completed_at": null, "max_attempts": 4}	\N
10	2026-12-01 11:14:57.182842+00	946	worker-1	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	\N	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:48.055094+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:58.150091+00:00", "completed_at": null, "max_attempts": 4}
11	2026-12-01 11:14:58.51978+00	952	worker-1	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "retry", "attempts": 1, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:48.055094+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:58.150091+00:00", "completed_at": null, "max_attempts": 4}	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:58.518728+00:00", "lease_until": "2026-12-01T11:15:06.518728+00:00", "start_after": "2026-12-01T11:14:58.150091+00:00", "completed_at": null, "max_attempts": 4}
12	2026-12-01 11:15:02.298553+00	971	worker-2	d3f3ee45-07de-4339-a1fb-9ff4cc9beb21	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": null, "status": "active", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:58.518728+00:00", "lease_until": "2026-12-01T11:15:06.518728+00:00", "start_after": "2026-12-01T11:14:58.150091+00:00", "completed_at": null, "max_attempts": 4}	{"id": "d3f3ee45-07de-4339-a1fb-9ff4cc9beb21", "tool": "work", "output": "cb588108a159a5e69ad853a92d0beead", "status": "completed", "attempts": 2, "priority": 0, "created_at": "2026-12-01T11:14:46.223415+00:00", "started_at": "2026-12-01T11:14:58.518728+00:00", "lease_until": null, "start_after": "2026-12-01T11:14:58.150091+00:00", "completed_at": "2026-12-01T11:15:02.297724+00:00", "max_attempts": 4}
\.


--
-- Name: job_harness_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.job_harness_audit_id_seq', 12, true);


--
-- PostgreSQL database dump complete
--


