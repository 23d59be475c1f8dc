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

SET default_table_access_method = heap;

--
-- Name: job; Type: TABLE; Schema: pgboss; Owner: -
--

CREATE TABLE pgboss.job (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    priority integer DEFAULT 0 NOT NULL,
    data jsonb,
    state pgboss.job_state DEFAULT 'created'::pgboss.job_state NOT NULL,
    retry_limit integer DEFAULT 2 NOT NULL,
    retry_count integer DEFAULT 0 NOT NULL,
    retry_delay integer DEFAULT 0 NOT NULL,
    retry_backoff boolean DEFAULT false NOT NULL,
    start_after timestamp with time zone DEFAULT now() NOT NULL,
    started_on timestamp with time zone,
    singleton_key text,
    singleton_on timestamp without time zone,
    expire_in interval DEFAULT '00:15:00'::interval NOT NULL,
    created_on timestamp with time zone DEFAULT now() NOT NULL,
    completed_on timestamp with time zone,
    keep_until timestamp with time zone DEFAULT (now() + '14 days'::interval) NOT NULL,
    output jsonb,
    dead_letter text,
    policy text
)
PARTITION BY LIST (name);


--
-- Name: j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f; Type: TABLE; Schema: pgboss; Owner: -
--

CREATE TABLE pgboss.j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f (
    id uuid DEFAULT gen_random_uuid() CONSTRAINT job_id_not_null NOT NULL,
    name text CONSTRAINT job_name_not_null NOT NULL,
    priority integer DEFAULT 0 CONSTRAINT job_priority_not_null NOT NULL,
    data jsonb,
    state pgboss.job_state DEFAULT 'created'::pgboss.job_state CONSTRAINT job_state_not_null NOT NULL,
    retry_limit integer DEFAULT 2 CONSTRAINT job_retry_limit_not_null NOT NULL,
    retry_count integer DEFAULT 0 CONSTRAINT job_retry_count_not_null NOT NULL,
    retry_delay integer DEFAULT 0 CONSTRAINT job_retry_delay_not_null NOT NULL,
    retry_backoff boolean DEFAULT false CONSTRAINT job_retry_backoff_not_null NOT NULL,
    start_after timestamp with time zone DEFAULT now() CONSTRAINT job_start_after_not_null NOT NULL,
    started_on timestamp with time zone,
    singleton_key text,
    singleton_on timestamp without time zone,
    expire_in interval DEFAULT '00:15:00'::interval CONSTRAINT job_expire_in_not_null NOT NULL,
    created_on timestamp with time zone DEFAULT now() CONSTRAINT job_created_on_not_null NOT NULL,
    completed_on timestamp with time zone,
    keep_until timestamp with time zone DEFAULT (now() + '14 days'::interval) CONSTRAINT job_keep_until_not_null NOT NULL,
    output jsonb,
    dead_letter text,
    policy text,
    CONSTRAINT cjc CHECK ((name = 'my-tool'::text))
);


--
-- Name: tool_job; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tool_job (
    id text DEFAULT public.cuid() NOT NULL,
    "toolSlug" text NOT NULL,
    status public."ToolJobStatus" DEFAULT 'PENDING'::public."ToolJobStatus",
    priority integer DEFAULT 0,
    input jsonb NOT NULL,
    output jsonb,
    error text,
    "userId" text,
    "sessionId" text,
    "pgBossJobId" text,
    attempts integer DEFAULT 0,
    "maxAttempts" integer DEFAULT 3,
    "startedAt" timestamp with time zone,
    "completedAt" timestamp with time zone,
    "expiresAt" timestamp with time zone,
    "createdAt" timestamp with time zone DEFAULT now(),
    "updatedAt" timestamp with time zone DEFAULT CURRENT_TIMESTAMP
);


--
-- Name: j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f; Type: TABLE ATTACH; Schema: pgboss; Owner: -
--

ALTER TABLE ONLY pgboss.job ATTACH PARTITION pgboss.j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f FOR VALUES IN ('my-tool');


--
-- Data for Name: j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f; Type: TABLE DATA; Schema: pgboss; Owner: -
--

COPY pgboss.j29786ccfcfadf481876d76b29646de860a899af7afa4eae80ff86c1f (id, name, priority, data, state, retry_limit, retry_count, retry_delay, retry_backoff, start_after, started_on, singleton_key, singleton_on, expire_in, created_on, completed_on, keep_until, output, dead_letter, policy) FROM stdin;
88636978-5350-452a-b9ea-75eaa483358c	my-tool	0	{"toolJobId": "ce669744467474ae39415eb243c28f9f7"}	completed	3	0	60	t	2026-12-01 03:27:48.187408+00	2026-12-01 03:27:48.460643+00	\N	\N	00:10:00	2026-12-01 03:27:48.187408+00	2026-12-01 03:27:53.454431+00	2026-12-15 03:27:48.187408+00	\N	\N	standard
a934d369-a5a1-4595-964d-c3bc03503a6d	my-tool	0	{"toolJobId": "c3d119000baf8479a9a20245d20c65478"}	completed	3	0	60	t	2026-12-01 03:28:01.457655+00	2026-12-01 03:28:01.607422+00	\N	\N	00:10:00	2026-12-01 03:28:01.457655+00	2026-12-01 03:28:03.134274+00	2026-12-15 03:28:01.457655+00	\N	\N	standard
63d68038-0c2d-4e0b-b4d5-fe88cc7fd0ae	my-tool	0	{"toolJobId": "c33ba0e78f7ea48a3800b036121f7e71c"}	completed	3	0	60	t	2026-12-01 03:28:12.821124+00	2026-12-01 03:28:13.383902+00	\N	\N	00:10:00	2026-12-01 03:28:12.821124+00	2026-12-01 03:28:18.543691+00	2026-12-15 03:28:12.821124+00	\N	\N	standard
59e677dc-780f-4781-b90c-c8e1a1c186e9	my-tool	0	{"toolJobId": "cd7946fb3c70e443f8f35f41e4544d40e"}	completed	3	0	60	t	2026-12-01 03:28:30.509915+00	2026-12-01 03:28:30.76122+00	\N	\N	00:10:00	2026-12-01 03:28:30.509915+00	2026-12-01 03:28:32.523219+00	2026-12-15 03:28:30.509915+00	\N	\N	standard
cbbe754a-879b-40d2-a35a-db3a4f686399	my-tool	0	{"toolJobId": "c9992f48ffd0340de8b5c816a954679d6"}	completed	3	0	60	t	2026-12-01 03:28:38.391243+00	2026-12-01 03:28:38.982323+00	\N	\N	00:10:00	2026-12-01 03:28:38.391243+00	2026-12-01 03:28:40.252228+00	2026-12-15 03:28:38.391243+00	\N	\N	standard
27696c56-73cc-4ffa-bd26-1e422b70cac2	my-tool	0	{"toolJobId": "c59c767a8143042f89e32cfed076865ce"}	completed	3	0	60	t	2026-12-01 03:28:45.988534+00	2026-12-01 03:28:47.090497+00	\N	\N	00:10:00	2026-12-01 03:28:45.988534+00	2026-12-01 03:28:48.560088+00	2026-12-15 03:28:45.988534+00	\N	\N	standard
6751c542-6f84-4d9c-b544-cde737f33ea6	my-tool	0	{"toolJobId": "c83626f8586594c17ab13e162b8db4ec0"}	completed	3	0	60	t	2026-12-01 03:28:58.132325+00	2026-12-01 03:28:59.411943+00	\N	\N	00:10:00	2026-12-01 03:28:58.132325+00	2026-12-01 03:29:01.019516+00	2026-12-15 03:28:58.132325+00	\N	\N	standard
\.


--
-- Data for Name: tool_job; Type: TABLE DATA; Schema: public; Owner: -
--

COPY public.tool_job (id, "toolSlug", status, priority, input, output, error, "userId", "sessionId", "pgBossJobId", attempts, "maxAttempts", "startedAt", "completedAt", "expiresAt", "createdAt", "updatedAt") FROM stdin;
ce669744467474ae39415eb243c28f9f7	my-tool	COMPLETED	0	{"text": "first"}	{"ok": true}	\N	\N	\N	88636978-5350-452a-b9ea-75eaa483358c	1	3	2026-12-01 03:27:48.759823+00	2026-12-01 03:27:53.05876+00	2026-12-08 03:27:53.05876+00	2026-12-01 03:27:48.079364+00	2026-12-01 03:27:53.05876+00
c3d119000baf8479a9a20245d20c65478	my-tool	COMPLETED	0	{"text": "after 0"}	{"ok": true}	\N	\N	\N	a934d369-a5a1-4595-964d-c3bc03503a6d	1	3	2026-12-01 03:28:01.720783+00	2026-12-01 03:28:02.99563+00	2026-12-08 03:28:02.99563+00	2026-12-01 03:28:01.440884+00	2026-12-01 03:28:02.99563+00
c33ba0e78f7ea48a3800b036121f7e71c	my-tool	COMPLETED	0	{"text": "after 1"}	{"ok": true}	\N	\N	\N	63d68038-0c2d-4e0b-b4d5-fe88cc7fd0ae	1	3	2026-12-01 03:28:13.799813+00	2026-12-01 03:28:18.305992+00	2026-12-08 03:28:18.305992+00	2026-12-01 03:28:12.763622+00	2026-12-01 03:28:18.305992+00
cd7946fb3c70e443f8f35f41e4544d40e	my-tool	COMPLETED	0	{"text": "after 2"}	{"ok": true}	\N	\N	\N	59e677dc-780f-4781-b90c-c8e1a1c186e9	1	3	2026-12-01 03:28:30.895625+00	2026-12-01 03:28:32.487914+00	2026-12-08 03:28:32.487914+00	2026-12-01 03:28:30.506173+00	2026-12-01 03:28:32.487914+00
c9992f48ffd0340de8b5c816a954679d6	my-tool	COMPLETED	0	{"text": "after 3"}	{"ok": true}	\N	\N	\N	cbbe754a-879b-40d2-a35a-db3a4f686399	1	3	2026-12-01 03:28:38.988748+00	2026-12-01 03:28:40.241055+00	2026-12-08 03:28:40.241055+00	2026-12-01 03:28:38.388786+00	2026-12-01 03:28:40.241055+00
c83355d5eec0f499997c46786f45bc9f5	my-tool	PENDING	0	{"text": "job 5"}	\N	\N	\N	\N	\N	0	3	\N	\N	\N	2026-12-01 03:28:46.206369+00	2026-12-01 03:28:46.206369+00
c59c767a8143042f89e32cfed076865ce	my-tool	COMPLETED	0	{"text": "after 4"}	{"ok": true}	\N	\N	\N	27696c56-73cc-4ffa-bd26-1e422b70cac2	1	3	2026-12-01 03:28:47.177961+00	2026-12-01 03:28:48.502907+00	2026-12-08 03:28:48.502907+00	2026-12-01 03:28:45.963388+00	2026-12-01 03:28:48.502907+00
c83626f8586594c17ab13e162b8db4ec0	my-tool	COMPLETED	0	{"text": "after 5"}	{"ok": true}	\N	\N	\N	6751c542-6f84-4d9c-b544-cde737f33ea6	1	3	2026-12-01 03:28:59.650922+00	2026-12-01 03:29:00.925873+00	2026-12-08 03:29:00.925873+00	2026-12-01 03:28:58.00511+00	2026-12-01 03:29:00.925873+00
\.


--
-- PostgreSQL database dump complete
--


